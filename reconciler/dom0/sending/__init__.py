"""What belongs to a script that is sent: what it has to show on the host, and what ssh says where it did not arrive."""
