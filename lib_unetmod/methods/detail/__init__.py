"""Methods that change detail, contrast and colours."""
