# One mirror per header of include/crosswire; declarations only.
