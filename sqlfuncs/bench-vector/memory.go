package main

import (
	"os"
	"strconv"
	"strings"
)

// memory returns the most memory, in MB, that this process has had resident, and how much it now
// has of files that are mapped: program code, and pages that the system can drop. Zeros where
// there is no /proc.
func memory() (peak, mapped float64) {
	status, _ := os.ReadFile("/proc/self/status") // without it, both are not measured
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kB, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmHWM":
			peak = kB / 1000
		case "RssFile":
			mapped = kB / 1000
		}
	}
	return peak, mapped
}
