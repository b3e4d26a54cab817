"""Lower precision: analysis of a float32 network on real samples, and conversion to float16, bfloat16 and int8."""
