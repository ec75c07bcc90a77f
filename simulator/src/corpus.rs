//! What the people of a seeded world are called and what they say: a shop for outdoor gear, its couriers and customers.

pub(crate) const PEOPLE: [&str; 40] = [
    "Amara Okafor",
    "Jonas Lindqvist",
    "Priya Raman",
    "Mateo Alvarez",
    "Hana Sato",
    "Elif Demir",
    "Tomás Ferreira",
    "Nora Haugen",
    "Samir Haddad",
    "Chloé Laurent",
    "Dmitri Volkov",
    "Grace Mwangi",
    "Luca Bianchi",
    "Zofia Nowak",
    "Kenji Mori",
    "Leila Farahani",
    "Oliver Grant",
    "Ingrid Solberg",
    "Rafael Costa",
    "Mei Lin",
    "Aidan Walsh",
    "Fatima Zahra",
    "Viktor Petrov",
    "Anjali Mehta",
    "Bruno Keller",
    "Sofia Marino",
    "Tariq Aziz",
    "Emma Johansson",
    "Diego Navarro",
    "Yuki Tanaka",
    "Abena Mensah",
    "Marek Dvořák",
    "Isla Campbell",
    "Omar Farouk",
    "Lena Fischer",
    "Thiago Rocha",
    "Nadia Rahman",
    "Callum Reid",
    "Ximena Torres",
    "Ravi Patel",
];

/// Channels inside the company: id, name, topic of [`TEAM_TALK`].
pub(crate) const TEAM_CHANNELS: [(&str, &str, usize); 8] = [
    ("general", "General", 3),
    ("engineering", "Engineering", 0),
    ("deploys", "Deploys", 0),
    ("warehouse-ops", "Warehouse Ops", 1),
    ("marketing", "Marketing", 2),
    ("incidents", "Incidents", 0),
    ("couriers-berlin", "Couriers Berlin", 1),
    ("social", "Coffee & Dogs", 3),
];

pub(crate) const TEAM_TALK: [&[&str]; 4] = [
    &[
        "Checkout latency is back to normal, p95 is {num} ms",
        "Can somebody review the pull request for the {product} page?",
        "Rolling out build {num} to staging now",
        "The flaky payment test failed again, I am on it",
        "Postmortem for {day} is up, comments until tomorrow please",
        "Who owns the address validation service?",
        "I moved the image resizing job to the night, it was eating {num}% of the cluster",
        "Feature flag for split shipments is on for {city}",
        "Reverting. The cart badge counts twice when you come from search",
        "Nice catch, that explains the timeouts from {city}",
        "Migration done, {num} rows changed, no downtime 🎉",
        "The webhook retries come from us, we answered 500 for about {num} seconds",
    ],
    &[
        "Truck from {city} is {num} minutes late",
        "We are out of medium boxes again, next delivery {day}",
        "Order {order} was packed twice, one parcel comes back",
        "{num} parcels left for the evening round",
        "Dock 3 is blocked, please use dock 5",
        "Customer in {city} asks for delivery after 18:00, who can take it?",
        "Scanner {num} is offline, I am restarting it",
        "Inventory for the {product} is off by {num}",
        "Picked up, on my way to {city}",
        "Road closed on the ring, I take the tunnel",
        "Return of order {order}: zip broken, photo attached",
        "All done for today. See you {day}",
    ],
    &[
        "Newsletter goes out {day} at nine",
        "The {product} video has {num}k views since yesterday",
        "Copy for the spring sale is in the document, please be harsh",
        "Open rate in {city} is {num}%, best so far",
        "Could we show the {product} on the landing page instead?",
        "The photographer can do {day}, shall I book?",
        "Our stand at the fair in {city} is confirmed",
        "I would drop the second headline. Less is more",
    ],
    &[
        "Good morning from {city} ☀️",
        "Lunch at half past twelve?",
        "Who left the {product} in the kitchen?",
        "Welcome {name}! Great to have you here",
        "Reminder: town hall {day} at 16:00",
        "My train is stuck near {city}, start without me",
        "Happy birthday {name} 🎂",
        "Found a key with a red tag, it is at the front desk",
        "The new coffee machine is dangerously good",
        "Holiday calendar is open, please add your days until {day}",
    ],
];

pub(crate) const CUSTOMER_TALK: [&str; 12] = [
    "Hi, where is my order {order}? It should have arrived {day}",
    "The {product} is too small, can I exchange it?",
    "Do you ship to {city}?",
    "I got an email that the payment failed, but my bank says it went through",
    "Thanks, that was quick!",
    "The courier left the parcel at a neighbour's and I don't know which one",
    "Is the {product} waterproof?",
    "Can I change the delivery address of {order}?",
    "Ok, I will wait until {day}",
    "¿Tienen la {product} en azul?",
    "The discount code doesn't work, it says <expired> & then nothing happens",
    "Perfect 👍",
];

pub(crate) const AGENT_TALK: [&str; 12] = [
    "Hello! I'm looking into order {order} right now",
    "I'm sorry about that. I've asked the depot in {city}",
    "Your parcel is out for delivery and should arrive {day}",
    "I've started the exchange, the label is in your inbox",
    "Could you send us a photo of the {product}?",
    "We do, delivery takes {num} hours",
    "The refund of {num} euros is on its way",
    "Done, the new address is saved",
    "I've added a voucher for the trouble",
    "Is there anything else I can do for you?",
    "You're welcome! Have a great day",
    "I'll pass this on to our team and get back to you {day}",
];

pub(crate) const LIVE_TALK: [&str; 8] = [
    "Hello from {city}!",
    "Is there a replay later?",
    "That {product} looks amazing",
    "How heavy is it?",
    "Sound is fine here",
    "Ordered one 😍",
    "Will there be a women's fit?",
    "Question: can it be repaired?",
];

pub(crate) const DIRECT_TALK: [&str; 12] = [
    "Do you have five minutes?",
    "Sure, give me ten",
    "I sent you the numbers for {city}",
    "Looks good to me, just one typo on page {num}",
    "Can we move our call to {day}?",
    "{day} works. Same time?",
    "Did you see the thread in #general? 😄",
    "Thanks for covering my shift!",
    "No worries, you'd do the same",
    "I'll bring the {product} back {day}",
    "Running late, sorry\nStart with the agenda, I'll join from the train",
    "👍",
];

pub(crate) const REPLIES: [&str; 10] = [
    "On it",
    "Thanks!",
    "I can confirm, same here",
    "Fixed, please try again",
    "Good idea",
    "Let me check with {name}",
    "That was {day}, wasn't it?",
    "Yes, {num} of them",
    "No idea, sorry",
    "Done ✅",
];

pub(crate) const CITIES: [&str; 12] =
    ["Berlin", "Porto", "Oslo", "Lyon", "Kraków", "Nairobi", "Osaka", "Bogotá", "Leeds", "Turin", "Malmö", "Izmir"];

pub(crate) const PRODUCTS: [&str; 10] = [
    "Ridge 40 backpack",
    "Fjord rain jacket",
    "Ember stove",
    "Cirrus tent",
    "Pine base layer",
    "Trail running vest",
    "Summit down jacket",
    "Harbor dry bag",
    "Lumen headlamp",
    "Drift sleeping bag",
];

pub(crate) const DAYS: [&str; 7] =
    ["on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "tomorrow", "next week"];

pub(crate) const REACTIONS: [&str; 6] = ["like", "love", "haha", "wow", "sad", "fire"];
