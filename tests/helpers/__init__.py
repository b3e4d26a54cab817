"""Made for the tests of several rooms: models, files, inputs, and stand-ins for what a machine may lack."""
