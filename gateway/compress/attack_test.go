package compress

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
)

// The attack itself: a page of the attacker's makes the browser ask for a page that repeats a parameter and holds a
// token, and learns the token's first digit from the lengths on the wire. Against the decision the lengths tell nothing;
// against a gateway that compresses for everybody they do, so the test can tell.
func TestLengthsTellAStrangerNothing(t *testing.T) {
	if guess, sure := attack(Apply); sure {
		t.Errorf("the attacker learned %q", guess)
	}
	careless := func(Request, int, int64, http.Header) bool { return true }
	if guess, sure := attack(careless); !sure || guess != '7' {
		t.Errorf("compressed for everybody the attacker learned %q (%v): the test is worth nothing", guess, sure)
	}
}

// attack guesses the first digit of the token, and is sure when one digit gives a shorter answer than all others.
func attack(apply func(Request, int, int64, http.Header) bool) (guess byte, sure bool) {
	shortest, ties := 1<<30, 0
	for digit := byte('0'); digit <= '9'; digit++ {
		switch n := lengthOnWire(apply, fmt.Sprintf("csrf_token=%c", digit)); {
		case n < shortest:
			shortest, guess, ties = n, digit, 0
		case n == shortest:
			ties++
		}
	}
	return guess, ties == 0
}

func lengthOnWire(apply func(Request, int, int64, http.Header) bool, parameter string) int {
	text := "<p>Nothing found for " + parameter + "</p>" + string(bytes.Repeat([]byte("<li>entry</li>"), 100)) +
		"<a href='/out?csrf_token=7f3a91'>sign out</a>"
	r := Request{http.MethodGet, head("Accept-Encoding: gzip", "Sec-Fetch-Site: cross-site")}
	if !apply(r, http.StatusOK, int64(len(text)), page()) {
		return len(text)
	}
	var wire bytes.Buffer
	w := NewWriter(&wire)
	w.Write([]byte(text))
	w.Close()
	return wire.Len()
}
