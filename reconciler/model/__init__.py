"""What a spec, a host, a domain and a disk is. One type for desired and observed; no file, clock or process."""
