package masterdtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
)

// A test of yours gets a masterd of its own, with tokens.
func ExampleNew() {
	test := func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{Space: "notes"})
		resp, err := http.Get(m.URL + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		fmt.Println(resp.Status, strings.HasPrefix(m.Token("phone"), "vst_"))
	}
	testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "mine", F: test}})
	// Output: 200 OK true
}
