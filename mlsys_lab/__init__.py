"""MLSys Lab: the library that the labs build, use and take apart."""

__version__ = "0.1.0"
