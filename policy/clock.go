package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // named zones must resolve on machines without a zone database
)

// Age is a time span in seconds, a multiple of 60: it grows once a minute, so that decisions can be remembered for
// that long. The zero value is not known and absent from documents; AgeOf makes known ones.
type Age struct {
	seconds int64
	known   bool
}

// AgeOf is d in whole minutes, rounded down. A negative d, the effect of clocks that differ, counts as zero.
func AgeOf(d time.Duration) Age {
	return Age{seconds: max(0, int64(d/time.Minute)*60), known: true}
}

// Seconds returns the age and whether it is known.
func (a Age) Seconds() (int64, bool) { return a.seconds, a.known }

// MarshalJSON writes the seconds.
func (a Age) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, a.seconds, 10), nil }

// UnmarshalJSON reads seconds, whole minutes of them.
func (a *Age) UnmarshalJSON(b []byte) error {
	var s int64
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s < 0 || s%60 != 0 {
		return fmt.Errorf("an age of %d seconds is not in whole minutes", s)
	}
	*a = Age{seconds: s, known: true}
	return nil
}

// SetTime fills the four fields that tell the time: now, in zone (policy.timezone).
func (c *Context) SetTime(now time.Time, zone *time.Location) {
	local := now.In(zone)
	c.TimeNS = now.UnixNano()
	c.Time = local.Format(time.RFC3339)
	c.Weekday = weekdays[local.Weekday()]
	c.Hour = local.Hour()
}

// weekdays are the names policies and configuration use, by time.Weekday.
var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

var errLocalZone = errors.New(`"Local" is not a time zone: name one, such as Europe/Berlin`)

// loadZone resolves an IANA zone name; "" is UTC. "Local" names no zone: it would mean something else on the machine
// that recomputes a decision.
func loadZone(name string) (*time.Location, error) {
	if strings.EqualFold(name, "local") {
		return nil, errLocalZone
	}
	return time.LoadLocation(name)
}
