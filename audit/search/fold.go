package search

import "unicode"

// Fold is a text such that two texts fold to the same exactly when strings.EqualFold says that they are equal: every
// character is replaced by the smallest of those that differ from it in case only.
func Fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 0x80 {
			return fold(s)
		}
	}
	return s
}

func fold(s string) string {
	runes := []rune(s)
	for i, r := range runes {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		runes[i] = least
	}
	return string(runes)
}
