package main

import "slices"

// mutants are all breaks, by the part of the product that they are in.
var mutants = slices.Concat(originals, resolution, logging, applying, serving, restoring)
