"""Questions in Spark's SQL that an embedded engine answers, in a second instead of ten: those of small tables where it
says exactly what Spark would. `expressions` and `translation` say which these are; all others are Spark's."""
