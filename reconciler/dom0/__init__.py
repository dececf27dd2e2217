"""The door to a host: the connection, the lock, and the files and disks of a dom0."""
