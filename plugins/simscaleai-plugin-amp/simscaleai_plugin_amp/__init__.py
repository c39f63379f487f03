"""Mixed precision: bfloat16 and float16 autocast."""
