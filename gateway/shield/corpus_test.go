package shield

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// The corpus of FuzzInspect has a form with more arguments than are read, so it shows a reader without a bound.
func TestInspectCorpusFindsAReaderWithoutABound(t *testing.T) {
	data, err := os.ReadFile("testdata/fuzz/FuzzInspect/many-arguments")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	body, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[4], "[]byte("), ")"))
	if err != nil {
		t.Fatal(err)
	}
	endless := testRules
	endless.Arguments = 1 << 20
	for rules, over := range map[*Rules]bool{&testRules: false, &endless: true} {
		if c := read(rules, "application/x-www-form-urlencoded", "", []byte(body), true); (len(c.args) > testRules.Arguments) != over {
			t.Errorf("with a bound of %d, %d arguments are read", rules.Arguments, len(c.args))
		}
	}
}
