"""Files in and out: what a path names, whole reads of ordinary files, whole writes or none."""
