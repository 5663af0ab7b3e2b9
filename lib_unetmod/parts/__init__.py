"""What methods are built of, one folder for each thing that is acted on. A part knows no method and no host.

It imports core and other parts.
"""
