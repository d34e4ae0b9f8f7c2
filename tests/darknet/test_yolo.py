"""The yolo layer's delta against a scalar transcription of yolo_layer.c."""
