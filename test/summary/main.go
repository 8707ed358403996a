// Summary reads the output of "go test -json" and prints what people need of it: a line per package, the whole
// output of what failed, and the totals. It fails when a test failed, when a package did not build, or when no test
// ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string // of build output
}

type totals struct{ passed, failed, skipped int }

func main() {
	start := time.Now()
	t, broken := read(bufio.NewScanner(os.Stdin))
	fmt.Printf("\nfinished in %s\n%d passed, %d failed, %d skipped\n", time.Since(start).Round(time.Second), t.passed, t.failed, t.skipped)
	if t.failed > 0 || t.skipped > 0 || broken || t.passed == 0 { // a test that did not run proves nothing
		os.Exit(1)
	}
}

// read prints as it goes. broken means that something failed which is not a test, such as a build.
func read(lines *bufio.Scanner) (t totals, broken bool) {
	lines.Buffer(nil, 16<<20)
	output := map[string][]string{} // by package and test
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "pass", "fail", "skip":
			broken = t.count(e, output[key]) || broken
			delete(output, key)
		}
	}
	return t, broken
}

func (t *totals) count(e event, output []string) (broken bool) {
	if e.Test == "" && e.Action == "skip" {
		return false // a package without tests
	}
	if e.Test == "" {
		fmt.Printf("%-5s %7.1fs  %s\n", e.Action, e.Elapsed, e.Package)
		if e.Action == "fail" {
			printAll(output)
		}
		return e.Action == "fail"
	}
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
	case "fail":
		t.failed++
		printAll(output)
	}
	return false
}

func printAll(output []string) {
	for _, line := range output {
		fmt.Print("    ", line)
	}
}
