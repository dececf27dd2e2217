"""The long-running controller behind `reconciler watch`: `apply` in a loop, with triggers, backoff and conditions."""
