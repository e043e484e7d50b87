"""What a decoder's raw output says about the data."""
