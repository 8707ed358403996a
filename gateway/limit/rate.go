package limit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is how many requests may come in a time, and how many of them at once. It is written 20/s, 600/m or 100/10s, with
// a burst where that is another number than the rate's own: 600/m burst 100. The zero value, written off, is no limit.
//
// It is kept by GCRA, the generic cell rate algorithm (ITU-T I.371, annex A): a request that is accepted is owed for one
// interval, which time pays off, and nobody may owe for more than a burst. Over any stretch of time no more are accepted
// than a burst and what the rate yields in that time.
type Rate struct {
	requests int64
	per      time.Duration
	burst    int64
}

// Bounds that nobody means to go beyond, so that debts fit into an int64 of nanoseconds.
const (
	mostRequests = 1_000_000
	mostRefill   = 365 * 24 * time.Hour // how long a whole burst may take to be there again
)

// Every returns the rate of so many requests in a time, all of which may come at once. Of what is out of bounds, the
// nearest that is not: at least one request in a year, at most 1,000,000 in a nanosecond.
func Every(requests int64, per time.Duration) Rate {
	requests = min(max(requests, 1), mostRequests)
	return Rate{requests: requests, per: min(max(per, 1), mostRefill), burst: requests}
}

// Unlimited reports whether the rate is no limit.
func (r Rate) Unlimited() bool { return r.requests == 0 }

// Burst is how many requests may come at once.
func (r Rate) Burst() int64 { return r.burst }

// Refill is how long it takes until a whole burst may come again.
func (r Rate) Refill() time.Duration { return time.Duration(r.burst * r.interval()) }

// interval is what one request owes, in nanoseconds. It is rounded up: never more than the rate says.
func (r Rate) interval() int64 { return (int64(r.per) + r.requests - 1) / r.requests }

// take accepts a request of somebody who owes until a moment, or says how long to wait for that. Moments are nanoseconds
// on one clock. Who owes more than a whole burst, because the clock was set back or another rate held before, is accepted
// once and then owes a whole one. A refusal changes nothing.
func (r Rate) take(owed, now int64) (owes int64, wait time.Duration) {
	interval := r.interval()
	most := now + r.burst*interval
	if owed > most {
		return most, 0
	}
	owes = max(owed, now) + interval
	if owes > most {
		return owed, time.Duration(owes - most)
	}
	return owes, 0
}

// giveBack undoes a take that left a debt until a moment, in so far as time has not paid it off since: nobody who asked
// in between is let off what is theirs.
func (r Rate) giveBack(owed, until, now int64) (owes int64) {
	return owed - min(max(until-now, 0), r.interval())
}

// UnmarshalText accepts what String writes, with any white space between the words.
func (r *Rate) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	switch {
	case len(words) == 1 && (words[0] == "off" || words[0] == "0"):
		*r = Rate{}
		return nil
	case len(words) != 1 && (len(words) != 3 || words[1] != "burst"):
		return fmt.Errorf("%q is no rate", text)
	}
	read, err := parseRate(words)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	*r = read
	return nil
}

func parseRate(words []string) (r Rate, err error) {
	count, per, found := strings.Cut(words[0], "/")
	if !found {
		return r, errors.New("the time is missing, as in 20/s")
	}
	if r.requests, err = parseCount(count); err != nil {
		return r, err
	}
	if r.per, err = parsePer(per); err != nil {
		return r, err
	}
	r.burst = r.requests
	if len(words) == 3 {
		if r.burst, err = parseCount(words[2]); err != nil {
			return r, err
		}
	}
	if r.interval() > int64(mostRefill)/r.burst {
		return r, errors.New("the burst would take more than a year to be there again")
	}
	return r, nil
}

func parseCount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > mostRequests {
		return 0, fmt.Errorf("%q is not a number from 1 to %d", text, mostRequests)
	}
	return n, nil
}

// perUnits are the times that a rate is written in.
var perUnits = []struct {
	suffix string
	length time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// parsePer reads a unit with or without a number before it.
func parsePer(text string) (time.Duration, error) {
	for _, u := range perUnits {
		number, is := strings.CutSuffix(text, u.suffix)
		if !is {
			continue
		}
		if number == "" {
			return u.length, nil
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 || n > int64(mostRefill/u.length) {
			break
		}
		return time.Duration(n) * u.length, nil
	}
	return 0, fmt.Errorf("%q is not a time such as s, m, h, d or 10s", text)
}

// String is the rate as it is written.
func (r Rate) String() string {
	if r.Unlimited() {
		return "off"
	}
	text := strconv.FormatInt(r.requests, 10) + "/" + perText(r.per)
	if r.burst != r.requests {
		text += " burst " + strconv.FormatInt(r.burst, 10)
	}
	return text
}

// perText is a time in the largest unit that divides it.
func perText(per time.Duration) string {
	for i := len(perUnits) - 1; i >= 0; i-- {
		u := perUnits[i]
		switch {
		case per == u.length:
			return u.suffix
		case per%u.length == 0:
			return strconv.FormatInt(int64(per/u.length), 10) + u.suffix
		}
	}
	return per.String()
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Expectation describes the type in errors of the configuration.
func (Rate) Expectation() string { return `a rate, such as 20/s, 600/m burst 100 or "off"` }

// Pattern describes the type in the configuration's schema.
func (Rate) Pattern() string {
	return `^(off|0|[1-9][0-9]*/([1-9][0-9]*)?[smhd]( burst [1-9][0-9]*)?)$`
}
