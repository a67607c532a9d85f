"""Files, images, quarantine and object stores."""
