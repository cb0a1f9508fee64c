package change_test

import (
	"fmt"

	"github.com/velosync/velosync/capture/change"
)

func ExampleResolve() {
	phone := change.Stamp{Clock: change.Clock{change.Master: 7, "phone": 3}, Weight: 0.9}
	laptop := change.Stamp{Clock: change.Clock{change.Master: 7, "laptop": 1}, Weight: 0.4}
	fmt.Println(phone.Clock.Compare(laptop.Clock))
	fmt.Println(change.Resolve(laptop, phone))

	laptop.Clock = laptop.Clock.Merge(phone.Clock) // the laptop has seen it now
	fmt.Println(change.Resolve(laptop, phone))
	// Output:
	// concurrent
	// remote weight
	// local causality
}
