//! What others do in the same account meanwhile.

use stripe_sim::Control;

/// So many changes of somebody else at this Stripe, of which no webhook tells.
pub async fn others_change(stripe: &Control, changes: u32) {
    if changes == 0 {
        return;
    }
    stripe.drop_webhooks(changes).await.expect("the local Stripe");
    let bob = stripe.create(&[("email", "bob@old.example")]).await.expect("the local Stripe");
    for nth in 1..changes {
        stripe.edit(&bob.id, &[("phone", &nth.to_string())]).await.expect("the local Stripe");
    }
}
