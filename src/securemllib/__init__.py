"""SecureMLlib: Spark's MLlib for data that must stay private on a cluster that somebody else runs."""
