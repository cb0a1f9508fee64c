package sim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// seeds returns the seeds that VELOSYNC_SIM_SEEDS names: a number of them, or "from-to".
func seeds(t *testing.T) (from, to int64) {
	text := os.Getenv("VELOSYNC_SIM_SEEDS")
	if text == "" {
		return 1, 60
	}
	a, b, isRange := strings.Cut(text, "-")
	from, err := strconv.ParseInt(a, 10, 64)
	if !isRange {
		from, to = 1, from
	} else if err == nil {
		to, err = strconv.ParseInt(b, 10, 64)
	}
	if err != nil || to < from {
		t.Fatalf("VELOSYNC_SIM_SEEDS is %q: want a number of seeds, or from-to", text)
	}
	return from, to
}

func TestSchedules(t *testing.T) { schedules(t, Options{}) }

// TestLives lets files go back in time.
func TestLives(t *testing.T) { schedules(t, Options{Life: true}) }

// TestDigests compares rows with the master in every round.
func TestDigests(t *testing.T) { schedules(t, Options{Digests: true}) }

func schedules(t *testing.T, o Options) {
	from, to := seeds(t)
	r := Sweep(from, []Simulation{{t.Name(), o}}, func(seed int64) bool { return seed <= to })
	t.Logf("%v", r)
	if err := errors.Join(r.Errors...); err != nil {
		t.Error(err)
	}
	if len(r.Failures) > 0 {
		t.Error(r.Explain(os.Getenv("VELOSYNC_SIM_SHRINK") != "0"))
	}
}

// A report calls a failure by what it means.
func TestReport(t *testing.T) {
	r := Sweep(1, []Simulation{{"heavy", Options{mutant: stamps(func(_ *change.Push, s *change.EditStamp) { s.Weight = change.MaxWeight })}}}, func(seed int64) bool { return seed <= 4 })
	want := fmt.Sprintf("divergence 0, lost 0, other failures 0, wrong verdicts %d", len(r.Failures))
	if text := r.String(); len(r.Failures) == 0 || !strings.HasSuffix(text, want) || r.Runs != 4 || r.Operations == 0 {
		t.Fatalf("got %s\nwant 4 runs and %s, not 0", text, want)
	}
	want = fmt.Sprintf("%d runs failed; the first of them, seed %d", len(r.Failures), r.Failures[0].Seed)
	if text := r.Explain(false); !strings.Contains(text, want) {
		t.Errorf("got %.2000s\nwant %s", text, want)
	}
}
