"""Files and directories read off a file system that nobody mounts: for `files` and `extract`."""
