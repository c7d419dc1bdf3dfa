"""Features that were made elsewhere: files, their arrays and columns, their splits."""
