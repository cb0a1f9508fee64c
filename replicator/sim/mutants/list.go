package main

import "slices"

// mutants are all breaks, by the part of the product that they are in.
var mutants = slices.Concat(originals, resolution, merging, logging, applying, serving, restoring)

// storeTests are the groups of the store's suite that find mutants by a test of their own,
// without those that take long.
const storeTests = "-run TestSQLite/^(Round|Identity|Pull|Resolve|Constraints|Hostile|Retention|Tokens)$ ./masterd/store"
