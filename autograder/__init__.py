"""The autograder: releases notebooks, runs students' work in a sandbox, grades and reports it.

Its own house: it never imports `mlsys_lab`. A notebook needs one line of it:
`from autograder.check import check`.
"""

#: Tells this package from others of the same name on the package index.
PROJECT = "mlsys-lab-course"

#: The release; a test holds pyproject.toml and `mlsys_lab.__version__` to it.
VERSION = "0.1.0"
