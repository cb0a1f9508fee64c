package sim

// Now and then some of the devices are cut off from the master, for a number of steps:
// nothing passes, or their requests arrive and the answers do not. Some runs have a crowd of
// devices.

// A partition says which devices are cut off.
type partition struct {
	off    map[int]bool // by the device's number
	oneWay bool         // requests arrive
}

// partitionBegins cuts a group of devices off, or ends that.
func (w *world) partitionBegins() {
	switch {
	case w.cutOff.off != nil && w.chance(.12):
		w.say("the partition ends")
		w.cutOff = partition{}
	case w.cutOff.off == nil && w.chance(.04):
		w.cutOff = partition{off: make(map[int]bool), oneWay: w.chance(.4)}
		for _, d := range w.devices {
			if w.rng.IntN(2) == 0 {
				w.cutOff.off[d.n] = true
			}
		}
		kind := "partition"
		if w.cutOff.oneWay {
			kind = "partition that requests pass"
		}
		w.fault(kind)
		w.say("a %s: %d of %d devices", kind, len(w.cutOff.off), len(w.devices))
	}
}

// isOff reports whether a device's messages don't come through, and whether its requests
// arrive nevertheless.
func (w *world) isOff(d *device) (off, arrives bool) {
	off = w.cutOff.off[d.n] && !w.calm
	return off, off && w.cutOff.oneWay
}

// drawDevices says how many devices there are.
func (w *world) drawDevices() int {
	if !w.o.Life && w.chance(.03) {
		w.fault("crowd of devices")
		return 10 + w.rng.IntN(41)
	}
	return 2 + w.rng.IntN(4)
}
