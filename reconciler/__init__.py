"""Desired state for Xen hosts: read specs, observe hosts, diff, order the steps, show the plan, follow it."""
