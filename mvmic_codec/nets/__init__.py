"""Networks: transforms, hyperprior, context, their integer form and released weights."""
