package lint

import (
	"fmt"
	"slices"
	"strings"
)

func contains(list []string, word string) bool { return slices.Contains(list, word) }

// suggestion is the known word that is nearest to an unknown one, as a hint; empty when none is near.
func suggestion(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

func nearest(word string, known []string) (best string) {
	distance := len(word)/3 + 1
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d <= distance && d < len(k) {
			best, distance = k, d-1
		}
	}
	return best
}

// maxWord bounds the words that are compared.
const maxWord = 64

// edits counts the insertions, removals and replacements that lead from one word to the other, and the swaps of
// neighbours.
func edits(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return len(a) + len(b)
	}
	var before, row, next [maxWord + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			replaced := row[j]
			if a[i] != b[j] {
				replaced++
			}
			next[j+1] = min(replaced, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
