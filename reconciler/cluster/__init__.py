"""Several controllers of one fleet, and the etcd by which they divide its hosts."""
