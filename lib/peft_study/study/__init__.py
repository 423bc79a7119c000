"""One run (`variant`), and the matrix of runs that answers a question (`study`)."""
