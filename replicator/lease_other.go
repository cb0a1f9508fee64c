//go:build !unix

package replicator

import "os"

// lock does nothing here: rounds are safe without it.
func lock(*os.File) error { return nil }
