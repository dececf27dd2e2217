"""The types for specs, hosts, domains and disks. One type for desired and observed; no file, clock or process."""
