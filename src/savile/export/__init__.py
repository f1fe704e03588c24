"""What a customized model is handed over as."""
