"""Test support that method packages share: golden numbers and pytest options."""
