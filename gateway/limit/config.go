package limit

import (
	"errors"
	"fmt"
)

// Config is the part of `limits` in the configuration that is about requests. It can change in a running gateway, and
// nobody's account starts anew when it does.
type Config struct {
	// Strangers bounds the requests without a valid session that come from one address; an IPv6 client counts with its
	// /64. What is over it gets 429. People who are signed in are never counted, whoever else shares their address.
	// Default 200/s burst 2000.
	Strangers Rate `yaml:"strangers" default:"200/s burst 2000"`
	// StrangersTotal bounds the requests without a valid session from all addresses together. Default 2000/s burst 10000.
	StrangersTotal Rate `yaml:"strangers_total" default:"2000/s burst 10000"`
	// StrangersRecords is how many refusals of strangers, from all addresses together, have an audit record each. What is
	// over it is counted in the log by reason, app and network (/24 or /48), every 10 seconds. What is decided on people
	// who are signed in always has a record. Default 100/s burst 1000.
	StrangersRecords Rate `yaml:"strangers_records" default:"100/s burst 1000"`
	// SignIn bounds what signing in may cost.
	SignIn SignIn `yaml:"sign_in"`
}

// SignIn is `limits.sign_in` in the configuration.
type SignIn struct {
	// Address bounds the steps of sign-ins, to the identity provider and back, that come from one address (IPv6: its
	// /64). Each sign-in takes two. Default 20/s burst 500.
	Address Rate `yaml:"address" default:"20/s burst 500"`
	// Account bounds how often one account may get a new session. Default 30/m burst 300.
	Account Rate `yaml:"account" default:"30/m burst 300"`
	// Total bounds the sign-ins that come back from identity providers, all together: each is remembered for a quarter
	// of an hour so that it cannot be repeated. Default 100/s burst 2000.
	Total Rate `yaml:"total" default:"100/s burst 2000"`
}

// App is an app's `limits`. What is over them gets 429. They can change in a running gateway.
type App struct {
	// Person bounds what one person asks of the app, such as 50/s burst 200. Default off.
	Person Rate `yaml:"person" default:"off"`
	// Groups bounds what the members of a group ask of the app, all of them together, such as {contractors: 5/s}. Who is
	// in several groups is held to each. Default: none.
	Groups map[string]Rate `yaml:"groups"`
	// App bounds what all people together ask of the app; only requests that the policy allows count. Default off.
	App Rate `yaml:"app" default:"off"`
	// Concurrency bounds how many requests may be under way at a time. A WebSocket or an event stream is under way for
	// as long as it is open.
	Concurrency Concurrency `yaml:"concurrency"`
}

// Concurrency is an app's `limits.concurrency`.
type Concurrency struct {
	// Person is how many requests of one person may be under way in the app. Default 0, no limit.
	Person int `yaml:"person"`
	// App is how many requests of all people may be under way in the app. Default 0, no limit.
	App int `yaml:"app"`
}

// Check refuses numbers that no one can mean.
func (c Concurrency) Check() error {
	if c.Person < 0 || c.App < 0 {
		return errors.New("must not be negative")
	}
	if c.App > 0 && c.Person > c.App {
		return fmt.Errorf("person: %d are more than the %d of all people together", c.Person, c.App)
	}
	return nil
}
