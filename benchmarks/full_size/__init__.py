"""Every method on U-Nets of true size, on whatever GPU there is: `python -m benchmarks.full_size`.

models     SD1.5's and SDXL's U-Net with random weights, made on the device in half precision
plan       what is measured, in order of worth
ways       what is run beside the plain U-Net: ours, and the published code
measuring  time and memory of a way over another's
mechanism  microseconds that edits cost which do nothing
bench      one row after another
results    what was measured, kept after each row in docs/full_size.json
report     the same as docs/full_size.md
"""
