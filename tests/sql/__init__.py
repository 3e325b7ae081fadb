"""Does SQL on encoded columns answer what plain Spark does, and nothing that it must not?"""
