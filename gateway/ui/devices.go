package ui

// Devices shows a person where they are signed in, and lets them end it.
type Devices struct {
	Frame
	Notice   string   // what was just done; empty: nothing
	Sessions []Device // the one that is used first
	More     int      // sessions that are not shown
	Action   string   // URL that every button but sign-out posts to
	Provider string   // title of the provider of this sign-in, where signing out there is possible; empty: it is not
}

// Device is one session in one browser.
type Device struct {
	ID       string
	Here     bool // this very browser
	Name     string
	Address  string
	Place    string // in words: network and country; may be empty
	Provider string // title
	Since    Moment
	Seen     Moment
	Apps     []DeviceApp
}

// DeviceApp is an app that was used in a session.
type DeviceApp struct{ Name, Host string }

func (p Devices) sheet() sheet {
	return sheet{Frame: &p.Frame, Devices: &p, Title: "Where you are signed in", FormAction: p.FormAction}
}

// Others reports whether there are sessions besides the one that is used.
func (p Devices) Others() bool { return len(p.Sessions)+p.More > 1 }
