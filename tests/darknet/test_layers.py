"""Each kind of layer against a scalar transcription of Darknet's C."""
