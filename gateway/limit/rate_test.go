package limit

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRatesReadAsTheyPrint(t *testing.T) {
	pattern := regexp.MustCompile(Rate{}.Pattern())
	for text, want := range map[string]Rate{
		"off": {}, "0": {}, "20/s": {20, time.Second, 20}, "600/m burst 100": {600, time.Minute, 100},
		"5/10s": {5, 10 * time.Second, 5}, "1/d": {1, 24 * time.Hour, 1}, "20/s burst 20": {20, time.Second, 20},
	} {
		var got, again Rate
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%q prints as %q and reads back as %v, %v", text, got, again, err)
		}
		if !pattern.MatchString(text) || !pattern.MatchString(got.String()) {
			t.Errorf("the schema refuses %q or %q", text, got)
		}
	}
	for _, bad := range []string{"", "20", "/s", "20/", "20/x", "0/s", "-1/s", "1.5/s", "20/s burst", "20/s burst 0", "20/s bursts 3",
		"1000001/s", "1/0s", "1/400d", "1/d burst 1000", "20/s burst 5 6", "off off"} {
		if got := new(Rate); got.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
	if text, err := json.Marshal(Every(3, 10*time.Second)); err != nil || string(text) != `"3/10s"` {
		t.Errorf("printed %s, %v", text, err)
	}
}

func rates() *rapid.Generator[Rate] {
	return rapid.Custom(func(t *rapid.T) Rate {
		r := Every(rapid.Int64Range(1, 1000).Draw(t, "requests"), time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "per")))
		r.burst = rapid.Int64Range(1, 50).Draw(t, "burst")
		return r
	})
}

// The rate agrees with its plain description: a bucket that holds a burst of tokens and gains one each interval.
func TestRateAgreesWithATokenBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := disagreement(Rate.take, histories().Draw(t, "history")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAgreementWithATokenBucketFindsMutants(t *testing.T) {
	mutants := map[string]func(Rate, int64, int64) (int64, time.Duration){
		"a refusal costs": func(r Rate, owed, now int64) (int64, time.Duration) {
			owes, wait := r.take(owed, now)
			if wait > 0 {
				owes += r.interval()
			}
			return owes, wait
		},
		"one more than a burst": func(r Rate, owed, now int64) (int64, time.Duration) {
			r.burst++
			return r.take(owed, now)
		},
		"idle time is saved up": func(r Rate, owed, now int64) (int64, time.Duration) {
			if owed == 0 {
				owed = now
			}
			if owed+r.interval() <= now+r.burst*r.interval() {
				return owed + r.interval(), 0
			}
			return r.take(owed, now)
		},
		"the wait is too short": func(r Rate, owed, now int64) (int64, time.Duration) {
			owes, wait := r.take(owed, now)
			return owes, (wait + 1) / 2
		},
	}
	for name, take := range mutants {
		caught := false
		for seed := range 300 {
			caught = caught || disagreement(take, histories().Example(seed)) != nil
		}
		if !caught {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// history is a rate and when requests come.
type history struct {
	rate   Rate
	start  int64
	pauses []int64
}

func histories() *rapid.Generator[history] {
	return rapid.Custom(func(t *rapid.T) history {
		rate := rates().Draw(t, "rate")
		pause := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 3*rate.interval()), rapid.Int64Range(0, 3*int64(rate.Refill())))
		return history{rate, rapid.Int64Range(0, 1e18).Draw(t, "start"), rapid.SliceOfN(pause, 1, 200).Draw(t, "pauses")}
	})
}

// disagreement compares a way of taking with tokens, which are counted in nanoseconds of the interval.
func disagreement(take func(Rate, int64, int64) (int64, time.Duration), h history) error {
	now, owed, tokens := h.start, int64(0), h.rate.burst*h.rate.interval()
	for i, pause := range h.pauses {
		now += pause
		tokens = min(tokens+pause, h.rate.burst*h.rate.interval())
		var wait time.Duration
		owed, wait = take(h.rate, owed, now)
		if missing := max(h.rate.interval()-tokens, 0); int64(wait) != missing {
			return fmt.Errorf("request %d: %d ns of a token are missing, and the wait is %d", i, missing, wait)
		}
		if wait == 0 {
			tokens -= h.rate.interval()
		}
	}
	return nil
}

// A clock that is set back makes nobody wait longer than for a burst to be there again, and forward gives nobody more than
// a burst.
func TestClockThatIsSetMakesNobodyWaitLong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rates().Draw(t, "rate")
		now, owed := int64(1e18), int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			owed, _ = rate.take(owed, now)
		}
		now += rapid.Int64Range(-9e17, 9e17).Draw(t, "step")
		owed, wait := rate.take(owed, now)
		if wait > rate.Refill() || int64(wait) > rate.interval() {
			t.Fatalf("the wait is %v, an interval %v", wait, time.Duration(rate.interval()))
		}
		accepted := int64(0)
		for range rate.burst + 1 {
			if owed, wait = rate.take(owed, now); wait == 0 {
				accepted++
			}
		}
		if accepted > rate.burst {
			t.Fatalf("%d were accepted at once of a burst of %d", accepted, rate.burst)
		}
	})
}
