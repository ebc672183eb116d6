"""Tables, figures and one HTML page, made from the files of the store. `build.build_report` is the entry."""
