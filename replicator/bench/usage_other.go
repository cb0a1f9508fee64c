//go:build !unix

package main

import (
	"errors"
	"time"
)

// cpuTime needs getrusage.
func cpuTime() (time.Duration, error) {
	return 0, errors.New("the time that a process computes is measured on unix only")
}
