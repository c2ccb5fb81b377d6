"""The words of the service and its rules: pure Python and NumPy, no input or output."""
