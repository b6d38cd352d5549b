"""What is inside images: recognising it, and resizing file systems."""
