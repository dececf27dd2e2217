"""What commands say of several controllers, and how they are told of the etcd between those."""
